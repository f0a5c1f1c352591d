"""Configuration: YAML -> frozen dataclasses, checked on load. Imports no torch; only `build.py` of a method reads it.

A YAML file states what differs from the defaults of its method (`ssnm/coseg/config.py`, ...). `--set key.sub=value`
overrides one value; values are read as YAML and converted by the declared type (so `1e-4` is a float). Unknown keys,
wrong types and values out of range are a ConfigError that names the key.
"""
