"""What each task trains: its data, its model and its module."""
