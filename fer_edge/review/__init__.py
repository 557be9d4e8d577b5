"""Reviewing faces: people label crops, and their decisions become a dataset."""
