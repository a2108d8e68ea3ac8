"""What a recorder says about a call by file name, sidecar and manifest. See `facts.py`."""
