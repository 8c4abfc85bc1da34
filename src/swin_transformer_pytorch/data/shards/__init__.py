"""Images packed into tar files with an index: on this machine or in any store, with or without classes."""
