"""A folder that needs no Python: built with PyInstaller by `make bundle`, tested by itself."""
