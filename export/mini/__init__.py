"""The miniature: a small codec and a small multistream model, trained here from nothing.

START HERE: voices and effects make sound, corpus keeps it, codec_train and lm_train learn from it,
package turns checkpoints into an artifact, evaluate says how good that is.
"""
