"""Makes artifacts smaller and tells what that did to the sound."""
