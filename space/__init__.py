"""What the page shows. Arrows: app.py -> space -> modeling; nothing of the model is computed here."""
