"""Other people's data sets, each read into the same table.

A row is one image and one finding; columns `COLUMNS`:

=============  =====================================================================================
patient_id     Whose image it is: the unit of every split.
image_id       Unique in the collection.
image_path     The image. It has to exist only where a reader says so.
mask_path      Its mask, or NA.
finding        What the label speaks of: ``"Edema"``, ``"cancer"``, ``"lesion"``.
label          1 present, 0 absent, between them a soft label, NaN unknown.
label_weight   Weight of the label in a loss or a score: 1, or 0 where it is to be left out.
site           Where the image was taken; NA where the collection does not say.
split          The collection's own part (``train``, ``valid``, ``test``); NA where it has none.
=============  =====================================================================================

`chexpert.read_chexpert`, `msd.read_msd` and `image_folder.read_image_folder` make it; each ends in
`table.finished`, which raises where a patient would stand in two parts.
`medlib.images.splits.split_patients` divides the patients anew.
`detection_boxes` writes masks as the boxes that a detector learns from.
"""
