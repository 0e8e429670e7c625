"""What a trained model sees: Δ of every word of a caption, and galleries of held-out pictures.

Plain records; nothing is drawn here.
"""
