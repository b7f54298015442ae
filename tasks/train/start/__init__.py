"""Start: what a network knows before the first step of its training.

In: the section `start` of the options. Out: the network at step 0, and what is known of it before.

source.py   where weights are: a file, a model of ours, a published name, a name of timm
given.py    whose classes and inputs they are
fit.py      whether they fit the network, before any work
initial.py  the network at step 0
projected.py  a network with the first layer of a projection head
new_layers.py  layers that begin at random
linear.py   a head that is fitted to frozen features
"""
