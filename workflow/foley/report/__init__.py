"""The report: figures, gallery, embedding map and the one HTML page that shows them."""
