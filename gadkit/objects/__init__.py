"""Models that see objects: masks from a click, boxes from words, and one network for every kind of segmentation.

    from gadkit import zoo

    segmenter = zoo.load("sam")

Each module holds one family behind one contract of `gadkit.objects.protocols`; `gadkit.objects.training` trains the
shipped ones on the factory's scenes.

Book: objects/sam
"""
