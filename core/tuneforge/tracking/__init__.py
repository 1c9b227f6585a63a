"""Telling plugins and trackers how a run gets on."""
