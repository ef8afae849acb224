"""From metrics to what a reader gets: tables, figures, one page, a summary in the terminal."""
