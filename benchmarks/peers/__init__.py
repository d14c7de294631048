"""The same work in this project and in other libraries, one file for each.

A peer is a module with

- `VARIANTS`: for each dtype, 'float32' or 'bfloat16', the ways in which it runs, such as 'eager' and 'compile',
- `versions()`: the versions of its libraries, by name,
- `supports(task)`: whether it does a task of `work.TASKS`,
- `prepare(task, inputs, dtype, variant)`: a `work.Prepared`, made from the same weights and images as all others,
- `product(size, dtype)`: a function that multiplies two square matrices, and waits for the result.

'bfloat16' means weights, averages and densities in float32, and products of matrices and convolutions in bfloat16.
"""
