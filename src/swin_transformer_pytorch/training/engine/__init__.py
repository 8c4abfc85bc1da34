"""What no task knows of: the loop's module and data, sampling, callbacks, resuming, running means, schedules."""
