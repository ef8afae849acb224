"""External evidence: what an outside language model says about a query (paper, sections 3.2 and 3.4)."""
