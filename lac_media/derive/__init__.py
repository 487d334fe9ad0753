"""What is made from a recording afterwards: its waveform, its loudness, and copies in other formats.

Functions on files, for a process of their own (`lac_media.derive.worker`): they use a whole core for a long time.
"""
