"""What all rooms use and what knows nothing of TensorFlow: errors, settings, plug-ins, files, progress, signals."""
