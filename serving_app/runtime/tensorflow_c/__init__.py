"""TensorFlow's C API by ctypes: the library, tensors, and sessions on SavedModels.

    library     finds and opens the shared library of the installed TensorFlow, declares the functions we call
    tensor      arrays to tensors and back
    session     a SavedModel loaded into a session: run, close

Two rules hold throughout. Nothing here imports TensorFlow's Python package. And whoever makes a handle frees it, once,
on every way out; a function that takes a handle over says so.
"""
