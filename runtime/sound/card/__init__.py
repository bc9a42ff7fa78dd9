"""What a sound card needs under DevicePort: the library, one open link, its frames, its loss."""
