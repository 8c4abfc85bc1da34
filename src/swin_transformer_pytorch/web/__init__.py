"""`swin web`: a page and a JSON API around predictors, of the [web] extra.

A request is an image file's bytes, never a path or an address. `guard` looks at where it comes from, `body` reads it
within limits, `worker` answers those of one model together, `answers` and `schema` are what goes back, and `server`
runs it all by uvicorn.
"""
