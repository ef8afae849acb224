"""Plant backdoors in language models, remove them with information conflicts, measure both."""

__version__ = "0.1.0"
