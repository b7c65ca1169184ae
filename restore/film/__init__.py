"""Clips: film and video files, read with libav in a process of its own, and written in segments."""
