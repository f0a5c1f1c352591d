"""P and J of predicted maps, group use, co-saliency measures. Knows files and arrays, no network; no torch.

Read in this order: ``protocol`` (what decides a number), ``measures`` (P and J of one image), ``pairing`` and
``maps`` (files), ``scoring`` (sets), ``scores`` (results and their files), ``published`` (the paper's tables),
``group_use``, ``outliers``, ``ranking``, ``cosal``.
"""

from .cosal import CosalScores, cosal_folder
from .group_use import GroupUse, GroupUseRecord, discrimination, group_use_record
from .measures import binarize, jaccard, precision
from .outliers import OutlierRecord, Outliers
from .pairing import Pair, Pairing, find_pairs
from .protocol import PROTOCOLS, Protocol, ThresholdRule
from .published import Comparison, compare_with_published
from .ranking import auc, spatial_auc, spearman
from .scores import Average, ClassScore, FolderScores, ImageScore
from .scoring import score_arrays, score_folder

__all__ = [
    "PROTOCOLS",
    "Average",
    "ClassScore",
    "Comparison",
    "CosalScores",
    "FolderScores",
    "GroupUse",
    "GroupUseRecord",
    "ImageScore",
    "OutlierRecord",
    "Outliers",
    "Pair",
    "Pairing",
    "Protocol",
    "ThresholdRule",
    "auc",
    "binarize",
    "compare_with_published",
    "cosal_folder",
    "discrimination",
    "find_pairs",
    "group_use_record",
    "jaccard",
    "precision",
    "score_arrays",
    "score_folder",
    "spatial_auc",
    "spearman",
]
