"""A soak: months of a serving app's life in minutes, and every promise that it makes to its users checked all the time.

Fake models on a store that fails, hangs and forgets; versions that appear every few seconds, broken ones and ones that
are uploaded slowly in the worst order among them; labels that move; controllers and replicas that are killed. All the
while every model is asked over REST, by handle and by label. These are the promises:

1. A request to a model that had a version answers. Exempt are models all of whose versions were deleted, and models
   whose only replica was killed, until they answer again, for which there is a limit.
2. An answer comes from the model that was asked, and from a version of it that was good.
3. A label answers with the version that it was set to. While a move is on its way to all readers, either may answer.
4. A version that is still being uploaded is not loaded.
5. A version is loaded once by each replica, whoever is killed in between; again only after a failed load or a killed
   replica, or when it comes back after a newer one.
6. A killed replica has a successor.
7. Left in peace, every model comes to answer with its newest good version, every label with the version that it was set
   to, and no other application is left.
8. Memory, threads and open files of the controller and of the gateway stay what they are, and the number of
   applications and the size of the cache stay within limits.
9. When the app is deleted nothing of it is left.

    python -m benchmarks.soak [--minutes 30] [--models 20] [--seed 1]

The exit status is 1 if a promise was broken; then the stories of the models concerned are printed.
"""
