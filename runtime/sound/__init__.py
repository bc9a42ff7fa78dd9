"""Sound in and out: the ports that hand frames to the loop and take its replies."""
