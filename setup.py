"""
Which packages there are; everything else about the project is in C{pyproject.toml}.

C{twisted.plugins} is listed by hand, since neither it nor C{twisted} may have an C{__init__.py} here (that would hide
Twisted itself).  C{package_dir} makes an editable install put the whole checkout on the path, as a plain folder:
without it the plugin folder would be left out and C{twistd mem-continuity} would be unknown.
"""

from __future__ import annotations

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["mem_continuity", "mem_continuity.*"]), "twisted.plugins"],
    package_dir={"": "."},
    package_data={"mem_continuity": ["py.typed"]},
)
