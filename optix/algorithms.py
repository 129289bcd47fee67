"""The table of algorithms, and an agent for an environment."""
