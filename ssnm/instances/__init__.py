"""DeepCO3 (CVPR 2019): instance co-segmentation, one mask per object from nothing but a group of images.

Reading order, as the data flow: `trunk` (a backbone cut after an activation), `model` (score map, co-saliency),
`peaks` (regional maxima in 2-D and 4-D), `losses` (co-peak, affinity, saliency), `adam`, `fit` (one group),
`peak_backprop` (a response map per peak).

Then `proposals` and `regions` (masks to choose from), `prior`, `select` (ranking, suppression, noise) or
`explain` (the fast mode's choice), `pipeline` (a group from images to masks), `discovery` and `result` (for people).
"""

__all__ = ["Discovery", "StoredProposals", "discover", "folder_prior"]
_PLACES = {"Discovery": "result", "StoredProposals": "proposal_files", "discover": "discovery", "folder_prior": "prior"}


def __getattr__(name: str):
    """torch is imported when something needs it, not by `import ssnm.instances`."""
    if name in _PLACES:
        import importlib

        return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
    raise AttributeError(f"module 'ssnm.instances' has no attribute '{name}'")
