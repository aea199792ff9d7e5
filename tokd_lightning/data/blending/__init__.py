"""Forged training data from real frames: blended images (BI) and self-blended images (SBI).

``--data.forge bi`` follows Li et al., "Face X-ray for More General Face Forgery Detection", CVPR
2020; ``--data.forge sbi`` follows Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended
Images", CVPR 2022. Nothing is imported here: the points need no OpenCV, blending does.
"""
