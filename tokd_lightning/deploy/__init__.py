"""Deployment (Sec. 4.3): ``tokd export`` writes S_B and G_Sc, ``tokd detect`` scores files.

Nothing is imported here, so that ``tokd detect`` starts without torch and Lightning.
"""
