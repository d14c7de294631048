"""What is measured of a model: likelihood and sample scores."""
