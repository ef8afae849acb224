"""Sources of labelled text (packaged, hub, local) and their way to train and test examples."""
