"""Nodes: the machines on which the processes of one training run.

In: the section `training` of the settings. Out: the lines that the processes write, as `launch`
yields them on one machine. Three ways, by settings alone:

    PROTEGE_TRAINING__HOSTS=                   this machine
    PROTEGE_TRAINING__HOSTS=gpu1,gpu2          these hosts, over SSH
    PROTEGE_TRAINING__HOSTS=job                the nodes of the Slurm, torchrun or Kubernetes job

launch_on.py  what a training calls
reach.py      the nodes of a list of hosts, and of a job
job.py        the place of this machine in a job, from its environment
meeting.py    where the nodes of a job meet
agent.py      what runs on each node: it launches its share of the processes
channel.py    the JSON lines between the two

An agent stops its processes when its channel ends, so a training ends with its launcher on every
node, however that happens.
"""
