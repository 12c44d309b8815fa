"""Threat models, one family a file: blind, oblivious, transfer, white, query, diagnostic."""

from sparring.threats.base import Options, Seat, Threat, View, threat

__all__ = ["Options", "Seat", "Threat", "View", "threat"]
