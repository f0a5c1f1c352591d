"""DeepCO3 (CVPR 2019): instance co-segmentation, one mask per object from nothing but a group of images.

Reading order, as the data flow: `trunk` (a backbone cut after an activation), `model` (score map, co-saliency),
`peaks` (regional maxima in 2-D and 4-D), `losses` (co-peak, affinity, saliency), `adam`, `fit` (one group),
`peak_backprop` (a response map per peak).
"""
