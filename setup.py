"""Packaging lives in pyproject.toml; this file keeps `python setup.py` and nbdev's tools working."""

from setuptools import setup

setup()
