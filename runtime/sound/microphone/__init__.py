"""What is done to the microphone's sound before an engine hears it, each as a pure function."""
