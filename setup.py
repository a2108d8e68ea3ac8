"""Makes the networks of other authors before a build collects its files.

How: ensemble/inference/make_networks.py.

Everything else is in pyproject.toml.
"""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parent))


class BuildPy(build_py):
    """Also when only the list of files is asked for, which is made once and kept."""

    def finalize_options(self) -> None:
        """Make what is lacking."""
        from ensemble.inference.make_networks import make_networks
        from ensemble.inference.shipped_networks import networks_folder

        if not networks_folder().is_dir():
            make_networks(networks_folder())
        super().finalize_options()


setup(cmdclass={"build_py": BuildPy})
