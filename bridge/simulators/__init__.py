"""Devices of flesh and blood on ptys and sockets, for the demo, tests and replay.

They encode by themselves and share no table or codec with the decoders, so that neither is its own judge.
"""
