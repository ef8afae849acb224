"""One trainer for backdoored, clean-tuned and conflict models."""
