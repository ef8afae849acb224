"""How defenses that act on weights are run: what they are given, and what they leave."""
