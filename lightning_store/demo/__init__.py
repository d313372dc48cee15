"""The demo: an agent learns the numbers game, on real processes and a real Redis."""
