"""Stores: where the contract is kept."""
