"""Packaging of ssnm; tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "ssnm" / "__init__.py").read_text()).group(1)

setup(
    name="ssnm",
    version=VERSION,
    description="Object co-segmentation: find the object that a group of images shares (SSNM, AAAI 2020)",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    package_dir={"": "."},  # an editable install then works from the folder that holds the clone, too
    packages=find_packages(include=["ssnm", "ssnm.*"]),
    package_data={"ssnm": ["assets/*", "facts/*.json", "facts/*.csv", "visualize/page/*"]},
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "timm>=1.0.15",
        "numpy>=1.26",
        "pillow>=10.3",
        "safetensors>=0.4.3",
        "pyyaml>=6.0",
        "tqdm>=4.66",
        "pycocotools>=2.0.8",
    ],
    extras_require={
        "dev": ["pytest>=8", "ruff>=0.6", "scikit-learn>=1.4", "selenium>=4.20"],
        "cosal": ["pysodmetrics>=1.4.2"],
        "video": ["av>=12.0"],
        "tensorboard": ["tensorboard>=2.16"],
        "notebooks": ["ipykernel>=6.29", "nbclient>=0.10", "nbformat>=5.10"],
    },
    entry_points={"console_scripts": ["ssnm=ssnm.cli:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
