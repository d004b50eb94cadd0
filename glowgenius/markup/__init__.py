"""HTML and SVG by hand: one escape for every text, one style, and charts that load nothing."""
