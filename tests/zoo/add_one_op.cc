// An operation that no TensorFlow knows: AddOne, on float tensors. It registers itself when the library is loaded.

#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_tensor.h"

static void same_shape(TF_ShapeInferenceContext* context, TF_Status* status) {
  TF_ShapeHandle* shape = TF_NewShapeHandle();
  TF_ShapeInferenceContextGetInput(context, 0, shape, status);
  TF_ShapeInferenceContextSetOutput(context, 0, shape, status);
  TF_DeleteShapeHandle(shape);
}

static void compute(void* kernel, TF_OpKernelContext* context) {
  (void)kernel;
  TF_Status* status = TF_NewStatus();
  TF_Tensor* x = nullptr;
  TF_GetInput(context, 0, &x, status);
  int64_t shape[8];
  int rank = TF_NumDims(x);
  for (int axis = 0; axis < rank; axis++) shape[axis] = TF_Dim(x, axis);
  TF_Tensor* y = TF_AllocateOutput(context, 0, TF_FLOAT, shape, rank, TF_TensorByteSize(x), status);
  const float* from = (const float*)TF_TensorData(x);
  float* to = (float*)TF_TensorData(y);
  for (int64_t i = 0; i < TF_TensorElementCount(x); i++) to[i] = from[i] + 1;
  TF_DeleteTensor(x);
  TF_DeleteTensor(y);
  TF_DeleteStatus(status);
}

__attribute__((constructor)) static void register_add_one(void) {
  TF_Status* status = TF_NewStatus();
  TF_OpDefinitionBuilder* operation = TF_NewOpDefinitionBuilder("AddOne");
  TF_OpDefinitionBuilderAddInput(operation, "x: float");
  TF_OpDefinitionBuilderAddOutput(operation, "y: float");
  TF_OpDefinitionBuilderSetShapeInferenceFunction(operation, &same_shape);
  TF_RegisterOpDefinition(operation, status);
  TF_RegisterKernelBuilder("AddOne", TF_NewKernelBuilder("AddOne", "CPU", nullptr, &compute, nullptr), status);
  TF_DeleteStatus(status);
}
