"""Turns a Work into an Outcome. Knows processes, pipes and signals; never the database."""
