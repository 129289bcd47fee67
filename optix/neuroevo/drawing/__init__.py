"""Pictures of graphs.

plot: figures and animations. layout: where neurons stand. strokes: lines and boxes.
summary: a graph in a few lines of text.
"""
