"""Compiled networks kept between runs of the command line, in a directory that only the user can write.

A network compiled for CPUs is found by a key over all that it is compiled from, so a second start neither traces nor
compiles it. Everything else goes through JAX's persistent compilation cache, which finds an executable by the traced
program.

The library turns neither on: a program that imports it decides about JAX's settings.

A cached executable is run, so nobody but the user and root may be able to put one into the cache: every directory from
the root to the cache's is checked, symbolic links included. Our own entries are pickles and machine code, and each is
signed (HMAC-SHA256) with a random key that lies in the cache's directory and that only the user can read; the signature
is checked before anything else is done with an entry. JAX's entries carry no signature: the check of the directories is
all that protects them.

| module | holds |
| --- | --- |
| contexts | `use`, `use_jax_cache`, and where the cache is |
| entries | `CompilationCache`: find, compile, store and remove executables |
| key | what identifies an executable: code, versions, settings, host |
| signing | the key file and the signatures |
| private_files | files that only the user can write |
| permissions | directories that only the user and root can change |
| jax_cache | settings of JAX's own cache, and its warnings |
"""

from spectra_jax.inference.compilation_cache.contexts import default_directory, use, use_jax_cache
from spectra_jax.inference.compilation_cache.entries import CompilationCache
from spectra_jax.inference.compilation_cache.jax_cache import disabled

__all__ = ["CompilationCache", "default_directory", "disabled", "use", "use_jax_cache"]
