"""Malloc: processes that compute networks keep the memory that they have freed.

In: nothing. Out: variables for the environment of such a process, which Linux's allocator reads
when it starts. By itself it gives every large block back to the kernel and asks for it anew, a page
at a time: on a CPU, a ResNet-18 looks at a seventh fewer images then, and with Dask's own setting
for its workers at a third fewer (docs/scale.md).

    subprocess.Popen(command, env={**KEEP_MEMORY, **os.environ})
"""

KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 31),
}
