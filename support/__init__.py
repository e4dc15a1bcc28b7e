"""What a reader of the article may skip: flags, files, data, pictures, devices.

Imports run one way: the scripts and nice.py know these modules, these know none of them.
"""
